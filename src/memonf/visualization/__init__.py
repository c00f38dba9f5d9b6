"""Pictures and films of fields: turntables, what a field knows, where parents disagree."""
