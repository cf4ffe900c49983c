"""What nodes a random graph may have: one function for each operator or family, by `@rule`."""
