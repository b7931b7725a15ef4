"""The kill switch: quiesce, fence, kill, lease. See docs/stop.md."""
