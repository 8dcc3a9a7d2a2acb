"""Who acts, and what an agent owes in a cycle."""
