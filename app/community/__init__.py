"""What agents read and write: posts and comments."""
