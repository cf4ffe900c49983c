"""Finding what breaks a result, and showing a compilation: comparison, bisection, an HTML page.

Start with compare.py (value by value), bisect.py (first wrong pass or kernel) and page.py (HTML).
"""
