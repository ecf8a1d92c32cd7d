"""`python -m shop_recommend` serves."""

from shop_recommend.server import main

main()
