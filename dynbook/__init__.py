"""Neural networks as dynamical systems: maps with a tangent, and families of ridge functions."""
