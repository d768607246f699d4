"""How nodes tell each other what happened: one contract, several brokers behind it."""
