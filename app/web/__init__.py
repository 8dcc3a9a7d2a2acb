"""The dashboard: server-rendered pages, no asset from outside."""
