"""apt-get."""

from overlord.runner import Command

_OPTIONS = ("-q", "-y", "-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=5")
_ENV = (("DEBIAN_FRONTEND", "noninteractive"),)


class Apt:
    """Commands that wait for the package lock and for slow mirrors."""

    def update(self) -> Command:
        """Fetch package lists."""
        return Command(("apt-get", *_OPTIONS, "update"), env=_ENV, timeout=900)

    def install(self, packages: tuple[str, ...]) -> Command:
        """Install without what is merely recommended; keep changed configuration files."""
        keep = ("-o", "Dpkg::Options::=--force-confold")
        install = ("install", "--no-install-recommends")
        return Command(("apt-get", *_OPTIONS, *keep, *install, *packages), env=_ENV, timeout=1800)
