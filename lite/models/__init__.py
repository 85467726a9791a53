"""Networks and the table of them; nothing heavy is imported until a network is built."""
