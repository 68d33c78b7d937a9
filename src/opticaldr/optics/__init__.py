"""Pure wave optics in SI units: surface -> phase -> pupil -> point spread function -> image.

zernike.py       Noll index, Zernike polynomials
surfaces.py      kinds of surface behind one interface; diffusers.py: plates that scatter
materials.py     refractive indices of plastics
penalties.py     what a workshop cannot cut, as differentiable penalties
system.py        the fixed geometry of lens and sensor; thin-lens arithmetic
propagation.py   the lens equation: point spread functions by three formulations
off_axis.py      point spread functions away from the axis
field.py         the blur over the field, and pictures in which it changes
geometry.py      pixels, millimetres and cycles per face
analysis.py      MTF, Strehl ratio, encircled energy
bands.py         what is left of a face: signal-to-noise ratio, recoverable band
audit.py         sampling checks
manufacture.py   cameras as a workshop builds them; tolerance.py: Monte Carlo of what that does
fabrication.py   samples, figures and triangles of a plate; plate_formats.py: as bytes of files
imaging.py       convolution of a scene with a point spread function, and its adjoint
colour.py        sRGB encoding and decoding
"""
