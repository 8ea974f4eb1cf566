"""From a trained state to understanding."""
