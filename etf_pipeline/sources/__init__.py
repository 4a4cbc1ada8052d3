"""Where raw data comes from: one module per source, each turning its payload into canonical frames."""
