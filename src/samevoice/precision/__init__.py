"""Which type each layer needs: what rounding costs, and the smallest mixture."""
