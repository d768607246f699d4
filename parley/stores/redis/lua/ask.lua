-- What the rules ask about. KEYS and ARGV: as `standing.lua` says.

return standing()
