"""The proof that an exported file agrees with torch: parity, golden frames, every CPU backend."""
