"""What can be read from features alone: densities, prototypes and likeness to them."""
