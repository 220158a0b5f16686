"""Public datasets: fetched, checked, unpacked and laid out so that a format reads them"""
