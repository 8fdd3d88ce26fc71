"""From a folder of images and their tags to the configs of a whole pipeline."""
