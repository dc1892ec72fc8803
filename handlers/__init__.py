"""The reference application: what the demo, the image and the chart run. `README.md` beside this is its contract."""
