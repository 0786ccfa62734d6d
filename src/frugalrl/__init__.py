"""FrugalRL: deep reinforcement learning for the least compute, with the bill."""
