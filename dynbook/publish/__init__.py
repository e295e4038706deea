"""What `make` and the `dynbook` command call: environment, execution, site checks."""
