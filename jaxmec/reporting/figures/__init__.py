"""The figures, one file per subject, all in the style of `jaxmec.reporting.style`."""
