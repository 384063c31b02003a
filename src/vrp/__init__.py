"""VRP: when can a vision-language model's answer be trusted, and where can that be read?"""

__version__ = "0.1.0"
