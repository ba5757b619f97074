"""What an exported file is checked by: parity with torch, and golden frames."""
