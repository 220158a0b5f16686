"""The data that comes with the project: drawn by code, seeded, in the formats that real data comes in."""
