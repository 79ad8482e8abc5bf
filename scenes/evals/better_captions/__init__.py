"""Do captioners tell more of a scene, and do text-to-image models follow prompts for it?"""
