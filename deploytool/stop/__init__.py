"""The kill switch: quiesce, fence, kill, lease; and who keeps watch. See docs/stop.md."""
