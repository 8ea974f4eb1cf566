"""From batches to a trained state."""
