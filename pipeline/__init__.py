"""From labelled images and videos to a quantized model on a phone: the library behind the stages."""
