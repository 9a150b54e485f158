"""A two-speed vision-language-action policy: a slow S2 thinks, a fast S1 acts.

Importing this package loads nothing heavy; import the room you need (`vla.tandem`, `vla.runtime`, ...).
"""

__version__ = "0.1.0"
