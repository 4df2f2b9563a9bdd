"""TARS (Targeted Angular Reversal): find the neurons that write a concept's direction, and replace their weights."""
