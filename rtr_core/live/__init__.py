"""Live: pages send the frames of a camera, styled frames go back, and a tap switches the style."""
