"""Names of flux files: network, site, contents and resolution.

FLUXNET2015 (FLX), AmeriFlux FLUXNET (AMF), ICOS (ICOSETC) and Warm Winter 2020 (FLX) name their files
NETWORK_SITE_FLUXNET..., with the group of variables (FULLSET, SUBSET) and the resolution (Pastorello et al. 2020, table
1). Since 2025 all networks (AMF, CNF, EUF, ICOSETC, JPF, KOF, OZF, SAEON, TERN) write
NETWORK_SITE_FLUXNET_FLUXMET_DD_2004-2024_v1.3_r1.csv.
"""

import re
from dataclasses import dataclass

STEPS = frozenset({"HH", "HR"})
"""Resolutions of half-hours and hours."""

OTHER_RESOLUTIONS = {"WW": "weekly", "MM": "monthly", "YY": "yearly"}
"""Resolutions that are not read, in words."""

_RESOLUTIONS = STEPS | {"DD"} | OTHER_RESOLUTIONS.keys()
_SITE = re.compile(r"(?<![A-Za-z0-9])([A-Z]{2}-[A-Za-z0-9]{3})(?![A-Za-z0-9])")
_METADATA = re.compile(r"BIF[A-Z]*|VARINFO|SITEINFO|INSTRUMENTS|ANCILLARY")
_AUXILIARY = re.compile(r"AUX[A-Z]*")
_REANALYSIS = re.compile(r"ERA(I|5)?")
_UNPARTITIONED = ("FLUXES", "METEO", "METEOSENS")
_BASE = re.compile(r"BASE(-BADM)?")


@dataclass(frozen=True)
class FluxFileName:
    """Parts of a flux file's name.

    Attributes:
        site: Identifier of the site, such as BE-Bra; None without one.
        resolution: HH, HR, DD, WW, MM or YY; None without one.
        parts: Parts of the name between underscores and dots.
    """

    site: str | None
    resolution: str | None
    parts: tuple[str, ...]

    @classmethod
    def parse(cls, name: str) -> "FluxFileName":
        """Return the parts of a name, with or without folder and suffix."""
        site = _SITE.search(name)
        parts = tuple(re.split(r"[_.]", name.rsplit("/", 1)[-1]))
        # The first part is the network or, in another file, the whole name.
        resolution = next((part for part in parts[1:] if part in _RESOLUTIONS), None)
        return cls(site.group(1) if site else None, resolution, parts)

    @property
    def is_base(self) -> bool:
        """True for AmeriFlux BASE: measurements that are not partitioned."""
        return self._has(_BASE)

    @property
    def is_metadata(self) -> bool:
        """True for metadata of a site or of variables (BIF)."""
        return self._has(_METADATA)

    @property
    def is_auxiliary(self) -> bool:
        """True for results of the processing itself, such as thresholds (AUXNEE) and regressions (AUXMETEO)."""
        return self._has(_AUXILIARY)

    @property
    def is_reanalysis(self) -> bool:
        """True for meteorology downscaled from ERA, without fluxes."""
        return self._has(_REANALYSIS)

    @property
    def is_subset(self) -> bool:
        """True for the subset of variables of a FULLSET file."""
        return "SUBSET" in self.parts

    @property
    def is_unpartitioned(self) -> bool:
        """True for ICOS files of fluxes or sensors before the FLUXNET processing."""
        return self.parts[0].startswith("ICOS") and any(part in _UNPARTITIONED for part in self.parts)

    def _has(self, pattern: re.Pattern[str]) -> bool:
        return any(pattern.fullmatch(part) for part in self.parts[1:])
