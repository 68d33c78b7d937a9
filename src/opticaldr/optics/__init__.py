"""Pure wave optics in SI units: surface -> phase -> pupil -> point spread function -> image.

zernike.py       Noll index, Zernike polynomials
surfaces.py      kinds of surface behind one interface; diffusers.py: plates that scatter
materials.py     refractive indices of plastics
penalties.py     what a workshop cannot cut, as differentiable penalties
system.py        the fixed geometry of lens and sensor; thin-lens arithmetic
propagation.py   the lens equation: point spread functions by three formulations
off_axis.py      point spread functions away from the axis; a blur that changes over the field
geometry.py      pixels, millimetres and cycles per face
analysis.py      MTF, Strehl, encircled energy, recoverable band
audit.py         sampling checks; tolerance.py: Monte Carlo of what a workshop gets wrong
imaging.py       convolution of a scene with a point spread function, and its adjoint
colour.py        sRGB encoding and decoding
"""
