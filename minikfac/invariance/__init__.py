"""Which methods depend on the parametrization: the study of gaps between equivalent nets."""
