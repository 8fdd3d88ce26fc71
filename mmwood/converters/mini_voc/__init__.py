"""mini_voc: :mod:`mmwood.converters.mini_voc.build` says what it is and holds."""
