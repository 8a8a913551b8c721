"""Custom parts: register them, write a package for one, and check the parts that a package registers."""
