"""mmwood: segmentation from image tags, as a plugin for OpenMMLab 2.x.

Nothing is imported here: components register themselves when a config names them
(:mod:`mmwood.registry`), and :mod:`mmwood.functional` needs no OpenMMLab at all.
"""

__version__ = "0.1.0"
