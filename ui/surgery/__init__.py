"""The parts of the Surgery and Board pages: forms of edits, previews, removals and their results."""
