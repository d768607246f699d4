"""Where the chat lives: one contract, several stores behind it."""
