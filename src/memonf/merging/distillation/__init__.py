"""What parents answer where they saw, and how well a merged field answers the same."""
