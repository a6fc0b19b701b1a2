"""Aillio Bullet: the codec (pure), the USB port (the only module that knows libusb), the driver."""
