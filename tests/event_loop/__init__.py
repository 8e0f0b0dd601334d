"""Our own tests of the event loop: every one runs on whorl's loop and, as the control, on stock asyncio's."""
