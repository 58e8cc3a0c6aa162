"""The rank host: trains for jobs of this box and of others, in a private network of which nothing else is a part."""
