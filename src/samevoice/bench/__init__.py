"""What things cost here: samevoice beside what people use today, in one interleaved run."""
