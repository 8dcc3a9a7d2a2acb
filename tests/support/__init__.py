"""What tests share: factories and servers."""
