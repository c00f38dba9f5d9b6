"""Parts of methods that make one set of params of aligned parents, one way a file."""
