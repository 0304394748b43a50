"""What driver authors and applications import: messages, drivers, and the client."""
