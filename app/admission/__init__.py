"""Between wanting a gateway call and being allowed to make it."""
