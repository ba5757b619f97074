"""The architectures: one module each, found by its name. To add one, add a module here; `--models NAME` trains it.

A module has `MEAN` and `STD`, per channel of RGB in 0..1, and `build(classes, dropout=None)`, which returns a network
that maps float32 (n, 3, S, S) to logits (n, classes), for every S from 32 to 512 px, with one `nn.Dropout` of the
requested rate.
"""
