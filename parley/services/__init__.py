"""What people can do, one module per noun."""
