"""What reading history costs."""
