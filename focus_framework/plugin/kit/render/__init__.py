"""Practice images of scenes that a path tracer lights, for authors of tasks: `pip install 'focus-framework[render]'`.

A task's ``render(random, size)`` takes a scene by rule from `places` (or puts one together of `bodies`, `materials`, `light` and
`scene`), gives it to `engine.Stage`, takes the mask from what the stage tells (labels, sunlight, blur), and the image from
`camera.photograph`. `splices` forges photographs of such scenes. Importing any of it imports no renderer.
"""
