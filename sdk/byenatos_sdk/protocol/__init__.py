"""Floor 0: the messages, errors and frames that every process speaks. Standard library and msgspec only."""
